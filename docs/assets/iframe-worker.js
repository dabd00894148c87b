// A page opened as a file may not start a worker: its script runs in a hidden frame instead.
if (location.protocol === "file:") {
  const prelude = `<script>
    window.postMessage = (data) => parent.postMessage(data, "*");
    window.importScripts = (...urls) => urls.reduce((before, url) => before.then(
      () => new Promise((done, failed) => {
        const script = document.createElement("script");
        script.src = url; script.onload = done; script.onerror = failed;
        document.body.appendChild(script);
      })), Promise.resolve());
  </scr` + `ipt>`;
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.onmessage = null;
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.appendChild(this.frame);
      const page = this.frame.contentWindow.document;
      page.open();
      page.write(`<html><body>${prelude}<script src="${new URL(url, location.href)}"></scr` + `ipt></body></html>`);
      page.close();
      this.ready = new Promise((done) => { this.frame.onload = done; });
      window.addEventListener("message", (event) => {
        if (event.source !== this.frame.contentWindow) return;
        const told = new MessageEvent("message", { data: event.data });
        if (this.onmessage) this.onmessage(told);
        this.dispatchEvent(told);
      });
    }
    postMessage(data) {
      this.ready.then(() => {
        this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }));
      });
    }
    terminate() { this.frame.remove(); }
  };
}

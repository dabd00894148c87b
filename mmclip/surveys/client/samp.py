"""A table to TOPCAT, Aladin and friends over SAMP (the hub that those programs start)."""

from pathlib import Path

from mmclip.errors import MissingExtra, RemoteError

MTYPE = "table.load.votable"  # what TOPCAT and Aladin subscribe to


def send(votable: Path, name: str, recipient: str = "") -> list[str]:
    """Ask the listening programs to load a VOTable from the disk of this machine.

    Args:
        votable: The file; it must stay until the programs have read it.
        name: What the programs call the table.
        recipient: Only to the program of that name (topcat, aladin); empty for all.

    Returns:
        Names of the programs that were asked.

    Raises:
        RemoteError: If there is no hub, or nobody who loads tables (or not the one named).
        MissingExtra: If this pyvo has no SAMP.

    Source:
        IVOA Recommendation SAMP 1.3; the message type is of its registry of MTypes.
    """
    try:
        from pyvo import samp
    except ImportError as error:
        raise MissingExtra("this pyvo has no SAMP", "pip install 'pyvo>=1.9'") from error
    client = samp.SAMPIntegratedClient(name="mmclip", description="answers of mmclip")
    try:
        client.connect()
    except Exception as error:  # it raises its own errors and those of XML-RPC
        raise RemoteError(
            f"there is no SAMP hub ({error})", "start TOPCAT or Aladin, then repeat"
        ) from error
    try:
        message = {
            "samp.mtype": MTYPE,
            "samp.params": {"url": votable.resolve().as_uri(), "name": name, "table-id": name},
        }
        asked = []
        for identifier in client.get_subscribed_clients(MTYPE):
            title = client.get_metadata(identifier).get("samp.name", identifier)
            if recipient.lower() in title.lower():
                client.notify(identifier, message)
                asked.append(title)
    finally:
        client.disconnect()
    if not asked:
        raise RemoteError(
            f"no program at the SAMP hub loads tables{f' as {recipient}' if recipient else ''}",
            "start TOPCAT or Aladin, then repeat",
        )
    return sorted(asked)

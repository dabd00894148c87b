"""`python -m mmclip` is the same as `mmclip`."""

from mmclip.cli import main

if __name__ == "__main__":
    main()

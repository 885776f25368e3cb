"""`python -m ebm_control`: the console script `ebm-control`."""

from ebm_control.cli import main

if __name__ == "__main__":
    main()

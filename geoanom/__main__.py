"""``python -m geoanom``."""

from geoanom.cli.main import main

if __name__ == "__main__":
    main()

"""`python -m esg_transformers`, and `accelerate launch -m esg_transformers train ...`."""

import sys

from esg_transformers.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

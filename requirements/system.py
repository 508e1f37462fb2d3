"""Install the system packages that are missing, or say the one command that does it.

Usage: python3 requirements/system.py LIST. Exit 0 when all are there, 4 when a
person has to run the printed command. Standard library only.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path


def main() -> int:
    rows = [line.split() for line in Path(sys.argv[1]).read_text().splitlines() if line and line[0] != "#"]
    missing = [name for name, file in rows if not Path(file).exists()]
    if not missing:
        return 0
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"setup: system packages are missing. Run:\n  sudo {' '.join(command)}", file=sys.stderr)
        return 4
    print(f"setup: installing {', '.join(missing)}", file=sys.stderr)
    quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
    subprocess.run(["apt-get", "update", "-qq"], check=True, **quiet)
    subprocess.run([*command, "-qq"], check=True, **quiet)
    left = [name for name, file in rows if not Path(file).exists()]
    if left:
        print(f"setup: expected {', '.join(left)} after installing, found nothing", file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Opens the file manager at a picture."""

import os
import subprocess
import sys
from pathlib import Path

from PySide6.QtCore import QProcess, QUrl
from PySide6.QtGui import QDesktopServices


def show_in_folder(path: Path) -> bool:
    """Show the file's folder, with the file selected where the system can do that."""
    if sys.platform == "win32":
        # explorer wants "/select,path" unquoted as one argument, which QProcess would quote.
        explorer = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "explorer.exe"
        subprocess.Popen(f'"{explorer}" /select,"{path}"')
        return True
    if sys.platform == "darwin":
        started, _ = QProcess.startDetached("/usr/bin/open", ["-R", str(path)])
        return started
    return QDesktopServices.openUrl(QUrl.fromLocalFile(str(path.parent)))

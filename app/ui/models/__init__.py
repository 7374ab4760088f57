"""State of the window as QObjects; QtCore and QtGui only."""

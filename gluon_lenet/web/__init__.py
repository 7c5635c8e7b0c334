"""Trained nets -> one HTML file in which one draws and sees them compute; its JavaScript and texts are in sources/."""

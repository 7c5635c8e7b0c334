"""Trained nets -> one HTML file in which one draws and sees them compute; its JavaScript is in client/."""

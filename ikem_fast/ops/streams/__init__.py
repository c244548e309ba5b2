"""Bones and motion as other codebases define them, whatever the layout of memory."""

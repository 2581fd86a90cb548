"""From measured files to a report: figures, gates and verdict; the text that people read."""

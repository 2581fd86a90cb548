"""reports/MODEL.html: what a report says, to be looked at. All that a designer would edit is in templates/."""

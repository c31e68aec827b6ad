"""Report."""
def write_report(document, path): path.write_text("")

"""One module for each page: its document prepared for its template."""

"""What the pages of Feature health say, read from the warehouse: a document for each page, no HTML."""

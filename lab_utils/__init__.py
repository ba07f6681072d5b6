"""A laboratory for DynamoDB Streams: what a notebook of this book imports."""

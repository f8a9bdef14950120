"""What leaves the warehouse: the copy (`publishing`), queries on it (`querying`), single files (`exporting`)."""

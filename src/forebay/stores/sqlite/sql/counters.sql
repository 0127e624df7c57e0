-- Events counted since the file was made. A small table, read whole.
SELECT name, n FROM counter

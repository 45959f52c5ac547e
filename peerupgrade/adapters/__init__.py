"""The ports, made of real servers, files and sockets, or of memory."""

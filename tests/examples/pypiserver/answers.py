"""Ends once the URL answers; how long that may take is the node's setting."""

import sys
import time
import urllib.request

while True:
    try:
        urllib.request.urlopen(sys.argv[1], timeout=5)
        break
    except OSError:
        time.sleep(0.2)

"""What is said at a roll call: objects of JSON, one on a line.

```text
who comes  {"tfdp": 1, "draw": <number drawn>}
host       {"size": <workers>, "draw": <number drawn>, "proof": ...}
who comes  {"rank": <rank or null>, "addresses": [...], "proof": ...}
host       {"come": <how many>}                        once a second, until
host       {"first_index": ..., "addresses": [...], "proof": ...}
        or {"refused": <why>, "proof": ...}
```

Each proof is of both numbers and of all that is said with it. Lines have a
largest size, and nothing is made of them but texts, numbers and lists.
"""

VERSION = 1
# The addresses of a launcher's 1024 workers, or of all workers of a job.
LONGEST_LINE = 2**17
LONGEST_LIST = 2**23

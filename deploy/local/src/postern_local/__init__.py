"""The local stack: real servers and the five services as processes of this machine, for people, tests and benches.

Promises that nothing it started outlives it, that it never ends a process which is not its own, and that two stacks
run side by side when their ports and folders differ. Containers and production are the images' business.
"""

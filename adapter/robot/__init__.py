"""The robot of a group (群机器人): messages out, nothing in."""

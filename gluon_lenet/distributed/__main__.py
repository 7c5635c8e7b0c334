"""The agent of a launcher on one host: messages on stdin and stdout; started by the launcher, here or by ssh.

When the launcher is killed, the end of stdin tells it: it then ends its processes and removes their temporary files.
"""

from gluon_lenet.distributed.agent import Agent

if __name__ == "__main__":
    Agent().run()

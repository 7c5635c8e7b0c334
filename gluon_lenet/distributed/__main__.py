"""The agent of a launcher on one host: messages on stdin and stdout; started by the launcher, here or by ssh."""

from gluon_lenet.distributed.agent import Agent
from gluon_lenet.distributed.processes import follow_parent

if __name__ == "__main__":
    follow_parent()
    Agent().run()

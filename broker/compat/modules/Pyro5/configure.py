from broker.compat.configuration import Configuration, dump
from broker.compat.configuration import config as global_config

if __name__ == "__main__":
    dump()

from broker.compat.configuration import Configuration, config, dump

if __name__ == "__main__":
    dump()

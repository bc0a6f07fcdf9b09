from broker.compat.nsc import handle_command, main


def handleCommand(nameserver, options, args):
    handle_command(nameserver, args[0], list(args[1:]))


if __name__ == "__main__":
    main()

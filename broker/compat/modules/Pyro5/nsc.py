from broker.compat.nsc import handle_command, main

if __name__ == "__main__":
    main()

from broker.compat import known_as
from broker.compat.echoserver import EchoServer, main

known_as(__name__, EchoServer)

if __name__ == "__main__":
    main()

import signal

# A background job of a shell script inherits "ignore SIGINT", and so would the processes that the ctrl-C tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

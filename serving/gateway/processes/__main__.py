"""`python -m serving.gateway.processes SLOT LISTENING CONTROL`: one of several gateway processes."""

from serving.stopping import end_at_sigterm

end_at_sigterm()  # before the slow imports below

from serving.gateway.processes.child import main  # noqa: E402

main()

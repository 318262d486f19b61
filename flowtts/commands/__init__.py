"""One module per verb of the command line: read the options, call the library, show the result.

Nothing heavy is imported at the head of these modules: ``flowtts --help`` must not wait for torch.
"""

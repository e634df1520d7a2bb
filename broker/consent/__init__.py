"""
A person's consent: the life of one pending authorization, from the request to the grant that it ends in.

What is sent and what has to be checked is in ``broker.oauth``; the grant goes to ``broker.tokens``. Nothing
here knows HTTP servers, configuration files or disks.
"""

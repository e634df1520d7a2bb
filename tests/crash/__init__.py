"""A broker that is killed, a disk that fails and a server that is away: no consent is lost."""

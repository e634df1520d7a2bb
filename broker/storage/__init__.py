"""
The store: records that survive a crash, a full disk and a failing one, and in which tampering shows.

``sqlite`` is the store of a daemon with a state directory, ``memory`` that of one without; both implement
``broker.tokens.storing.Store``. The package sees values as opaque bytes and seals them through a ``Sealer``
that is handed in: no key and no cipher is in here. No clock is read.

How a file is laid out, and what it is proof against (rules.md R3):

- each record is sealed on its own, with its name and the number of the write as associated data, so that it
  opens only in its place;
- names fall into buckets, and each bucket has a *listing*: names, generations and tags, under a MAC. It tells
  *which* record is missing, older than it should be, or in the wrong place;
- the *head* holds the write counter and a MAC over the tags of all listings, so that a listing cannot be
  exchanged either. Record, listing and head change in one transaction;
- the whole file, exchanged for an older copy of itself, is consistent: only an *anchor* elsewhere tells;
- a file with any damage is never written to again: what is readable in it goes to a new file, and it is kept.
"""

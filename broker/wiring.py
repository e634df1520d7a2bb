"""The one file that names every concrete class: settings in, a daemon's parts out."""

"""The web views' server: `attributor explore` and `attributor serve`. Needs the extra attributor[web].

start.py binds the port, runs the server and ends it; app.py puts the routes together; guard.py and security.py stand
before every request; errors.py says how failures are answered; sources.py knows the files that may be read.
"""

"""The live door, `attributor serve`: a model is loaded, writes while it is recorded, and its flows are looked at.

schema.py    what comes and goes over HTTP
routes.py    the addresses; they answer at once
service.py   Live: what one server holds (settings, jobs, the model, runs)
jobs.py      work that takes a while: one at a time, a short queue, events for whoever listens
model.py     the model in memory; loading.py and memory.py: how it gets there, and whether it fits
prompts.py   what a request asks, as tokens
generate.py  a request in, a run out: the answer, its recording and its flow
runs.py      the runs that are kept, within a budget of memory
"""

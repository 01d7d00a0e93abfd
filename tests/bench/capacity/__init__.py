"""What a fleet of a given size needs: costs measured one by one, their sum, and the sum held against a real load.

`lab` starts two instances over a Redis and reads what they spend; `costs` measures with it what one thing costs (an
idle connection, a session that comes and goes, an event, a delivery, a word of an answer); `model` adds up what a
`Demand` takes; `demands` says what 10 and 100 thousand people ask for, each assumption a field; `check` has Locust
make such a demand, at two sizes, and compares; `page` writes reports/capacity.md. `python -m tests.bench capacity`
does all of it.
"""

"""What the model says to the notebook about agents: a turn for each of its requests, in order."""

from tests.support.model_server import Scripted, call, calls, says

FIBONACCI_WRONG = "a, b = 0, 1\nprint([a for _ in range(20)], c)"
FIBONACCI = "a, b = 0, 1\nfor _ in range(20):\n    print(a, end=' ')\n    a, b = b, a + b"
CHART = """
import matplotlib.pyplot as plt
import pandas as pd

rain = pd.read_csv("rain.csv")
figure, axes = plt.subplots(figsize=(7, 2.6), layout="constrained")
axes.bar(rain.month, rain.mm, color="#5b8fc7")
axes.set(title="Rain in a year", ylabel="mm")
figure.savefig("rain.png", dpi=110)
print(rain.loc[rain.mm.idxmin()].to_dict())
""".strip()
PRIME = """
from itertools import count, islice

primes = (n for n in count(2) if all(n % d for d in range(2, int(n ** 0.5) + 1)))
next(islice(primes, 999, None))
""".strip()
DAYS = "from datetime import date\ndays = (date(1989, 11, 9) - date(1969, 7, 20)).days\ndays"
ANSWER = "There were 7,417 days."


def turns() -> list[Scripted]:
    """For one execution of the notebook."""
    return [
        says(FIBONACCI_WRONG),
        says(FIBONACCI),
        calls(call("run_code", code=CHART), text="I will draw it."),
        says("July is the driest month, with **12 mm**."),
        calls(call("execute_code", code=PRIME)),
        says("The 1000th prime number is 7919."),
        *(calls(call("execute_code", code=DAYS)), says(ANSWER)),
        *(calls(call("execute_code", code="print('the same', days)")), says(ANSWER)),
        *(calls(call("execute_code", code=DAYS)), says(ANSWER)),
    ]

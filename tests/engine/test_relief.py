"""Requests for less memory, between the thread that reads and the one that works."""

import threading

from app.engine.relief import Relief, ReliefRequests


def test_nothing_is_wanted_before_it_is_asked() -> None:
    assert ReliefRequests().take() is None


def test_what_was_asked_is_taken_once() -> None:
    requests = ReliefRequests()
    requests.ask(5, 0, "A game started.")
    assert requests.take() == Relief(device_bytes=5, host_bytes=0, reason="A game started.")
    assert requests.take() is None


def test_a_second_asking_before_the_look_widens_the_first_and_is_not_added() -> None:
    requests = ReliefRequests()
    requests.ask(5, 0, "A game started.")
    requests.ask(3, 7, "RAM runs out.")
    assert requests.take() == Relief(device_bytes=5, host_bytes=7, reason="RAM runs out.")


def test_no_asking_is_lost_between_two_threads() -> None:
    requests = ReliefRequests()
    last = 2000
    taken: list[int] = []

    def ask() -> None:
        for number in range(1, last + 1):
            requests.ask(number, 0, "")

    asking = threading.Thread(target=ask, name="asking")
    asking.start()
    while asking.is_alive():
        if (relief := requests.take()) is not None:
            taken.append(relief.device_bytes)
    asking.join()
    if (relief := requests.take()) is not None:
        taken.append(relief.device_bytes)
    assert taken[-1] == last
    assert taken == sorted(set(taken))

"""The thread that writes the files of a run."""

import threading
import time

import pytest

from fusemin.runs.background import MOST_WAITING, Background


def test_in_order_and_elsewhere():
    background, done, threads = Background(), [], set()
    for i in range(20):
        background.do(lambda i=i: (done.append(i), threads.add(threading.get_ident())))
    background.close()
    assert done == list(range(20))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_does_not_wait_but_for_what_is_too_much():
    background, may_go_on, given = Background(), threading.Event(), []

    def give():
        for i in range(MOST_WAITING + 3):
            background.do(may_go_on.wait, 60)
            given.append(i)

    giver = threading.Thread(target=give)
    giver.start()
    giver.join(0.5)
    assert giver.is_alive()
    # One is being done, the others wait.
    assert len(given) == MOST_WAITING + 1
    may_go_on.set()
    giver.join(60)
    background.close()
    assert len(given) == MOST_WAITING + 3


def _give_more(background):
    for _ in range(10):
        background.do(lambda: None)


@pytest.mark.parametrize("next_call", [_give_more, Background.wait, Background.close])
def test_errors_are_raised_and_nothing_follows_them(next_call):
    background, done = Background(), []

    def fail():
        # Both are waiting by then.
        time.sleep(0.2)
        raise ZeroDivisionError

    background.do(fail)
    background.do(done.append, 2)
    with pytest.raises(ZeroDivisionError):
        next_call(background)
    background.close()
    assert done == []

import threading

from installer.lock import setup_lock


def test_second_set_up_waits_for_the_first(tmp_path):
    waits, done = threading.Event(), threading.Event()

    def second() -> None:
        with setup_lock(tmp_path, on_wait=waits.set):
            done.set()

    thread = threading.Thread(target=second)
    with setup_lock(tmp_path, on_wait=waits.clear):
        thread.start()
        assert waits.wait(10)
        assert not done.is_set()
    thread.join(10)
    assert done.is_set()


def test_free_lock_is_taken_without_waiting_and_makes_the_folder(tmp_path):
    waited: list[bool] = []
    for _ in range(2):
        with setup_lock(tmp_path / "new", on_wait=lambda: waited.append(True)):
            pass
    assert waited == []

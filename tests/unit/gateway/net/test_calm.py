"""How much for nothing one connection may send."""

from gateway.net.calm import CONTENT_BYTES_PER_NOISE, NOISE, RESETS, RESETS_PER_S, Bucket, Calm


def test_a_bucket_gives_exactly_what_it_has_and_refills_with_time() -> None:
    bucket = Bucket(3, 1, now=0)
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    bucket = Bucket(3, 1, now=0)
    assert [bucket.take(0) for _ in range(3)] == [True] * 3
    assert bucket.take(1)
    assert not bucket.take(1)


def test_a_bucket_never_holds_more_than_its_most() -> None:
    bucket = Bucket(2, 100, now=0)
    bucket.give(50)
    assert [bucket.take(1000) for _ in range(3)] == [True, True, False]


def test_a_page_that_is_left_again_and_again_is_borne_and_a_rapid_reset_is_not() -> None:
    calm = Calm(0)
    assert all(
        calm.bears_reset(second + step / 10) for second in range(60) for step in range(int(RESETS_PER_S))
    )
    calm = Calm(0)
    assert sum(calm.bears_reset(0.01) for _ in range(1000)) == RESETS


def test_updates_that_follow_content_are_no_noise() -> None:
    calm = Calm(0)
    for _ in range(100_000):
        calm.note_content(2 * CONTENT_BYTES_PER_NOISE)
        assert calm.bears_noise(0)
        assert calm.bears_noise(0)
    assert sum(calm.bears_noise(0) for _ in range(10_000)) <= NOISE

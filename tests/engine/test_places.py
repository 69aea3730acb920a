"""The sandboxes that a session had, as `info` tells of them."""

from sandbox_kernel.engine.places import MAX_RECORDS, Records


def test_a_sandbox_is_on_record_from_its_start_to_its_end():
    records = Records()
    records.note_start("a")
    assert [(one.id, one.runs, one.ended) for one in records.all()] == [("a", 0, None)]
    records.note_run("a")
    records.note_run("a")
    records.note_end()
    (record,) = records.all()
    assert record.runs == 2
    assert record.ended is not None
    assert record.started <= record.ended
    records.note_end()
    assert records.all() == (record,)


def test_several_at_once_end_each_by_itself():
    records = Records()
    records.note_run("a")
    records.note_run("b")
    records.note_end("a")
    assert {one.id: one.ended is None for one in records.all()} == {"a": True, "b": False}


def test_only_the_last_hundred_are_remembered():
    records = Records()
    for number in range(MAX_RECORDS + 5):
        records.note_run(str(number))
    assert len(records.all()) == MAX_RECORDS
    assert records.all()[-1].id == str(MAX_RECORDS + 4)

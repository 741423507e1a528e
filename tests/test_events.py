"""What TensorBoard shows of a run that was killed and started again."""

from wgan_jax.report.events import Events

from .tensorboard_records import events, scalars


def write(workdir, start, losses):
    with Events(workdir, start) as written:
        for step, loss in losses.items():
            written.write({"step": step, "loss": loss})


def test_a_run_killed_before_its_first_checkpoint_shows_no_points_of_its_first_start(tmp_path):
    write(tmp_path, 0, {4: 1.0, 8: 2.0, 12: 3.0})
    write(tmp_path, 0, {4: 10.0})
    assert scalars(tmp_path / "tensorboard") == {("loss", 4): 10.0}


def test_a_resumed_run_shows_the_points_up_to_its_checkpoint_and_its_own(tmp_path):
    write(tmp_path, 0, {4: 1.0, 8: 2.0, 12: 3.0})
    write(tmp_path, 8, {})
    assert scalars(tmp_path / "tensorboard") == {("loss", 4): 1.0, ("loss", 8): 2.0}
    write(tmp_path, 8, {12: 30.0})
    assert scalars(tmp_path / "tensorboard") == {("loss", 4): 1.0, ("loss", 8): 2.0, ("loss", 12): 30.0}


def test_starts_within_a_second_have_files_of_their_own(tmp_path):
    """TensorBoard heeds START events only behind a version of at least 2, so each file begins with one."""
    for start in (0, 4, 8):
        write(tmp_path, start, {start + 4: 1.0})
    files = sorted((tmp_path / "tensorboard").iterdir())
    assert len(files) == 3
    for start, path in zip((0, 4, 8), files, strict=True):
        first, second, *_ = events(path)
        assert first.file_version == "brain.Event:2"
        assert second.step == start + 1

"""What a machine says of itself, for machines that this one is not: a folder stands for `/`."""

import importlib.metadata
import os

import pytest

from bigstep import machine

X86 = "processor\t: 0\nmodel name\t: AMD EPYC 9\nflags\t\t: fpu avx2 avx512f avx512_vnni\n"
SMALL_CORE = "processor\t: 1\nmodel name\t: AMD EPYC 9\nflags\t\t: fpu avx2 avx_vnni\n"


def lay(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def test_a_machine_that_says_nothing_has_unknown_facts(tmp_path):
    found = machine.describe(tmp_path)
    assert found.cpu and found.cpu_features == [] and found.usable_cores >= 1
    unknown = (found.board, found.l4t, found.quota, found.memory_bytes, found.memory_limit_bytes, found.load)
    assert unknown == (None,) * 6 and found.nvidia_boards == 0


def test_a_feature_counts_where_every_core_has_it(tmp_path):
    found = machine.describe(lay(tmp_path, {"proc/cpuinfo": X86}))
    assert found.cpu == "AMD EPYC 9" and found.cpu_features == ["avx2", "avx512f", "avx512_vnni"]
    found = machine.describe(lay(tmp_path, {"proc/cpuinfo": f"{X86}\n{SMALL_CORE}"}))
    assert found.cpu_features == ["avx2"]


def test_a_jetson_is_known_by_its_device_tree(tmp_path):
    files = {
        "proc/cpuinfo": "processor : 0\nFeatures : fp asimd asimddp i8mm\nCPU implementer : 0x41\n",
        "proc/device-tree/model": b"NVIDIA Jetson AGX Orin Developer Kit\0",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
    }
    found = machine.describe(lay(tmp_path, files))
    assert (found.board, found.l4t) == ("NVIDIA Jetson AGX Orin Developer Kit", "36.4.3")
    assert found.cpu_features == ["asimddp", "i8mm"]


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "50000 100000"}, 0.5),
        ({"proc/self/cgroup": "0::/../x\n", "sys/fs/cgroup/x/cpu.max": "rubbish"}, None),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/1\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us": "300000",
                "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000",
            },
            3.0,
        ),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, None),
        ({"sys/fs/cgroup/cpu.max": "100000 0"}, None),
    ],
)
def test_a_quota_is_found_in_either_kind_of_control_group(tmp_path, files, quota):
    root = lay(tmp_path, files)
    assert machine.describe(root).quota == quota
    present = len(os.sched_getaffinity(0))
    assert machine.usable_cores(root) == (present if quota is None else max(1, min(present, int(quota))))


def test_a_memory_limit_counts_if_it_is_below_what_there_is(tmp_path):
    meminfo = "MemTotal:        8000000 kB\nMemAvailable:    6000000 kB\nHugePages_Total:       0\n"
    root = lay(tmp_path, {"proc/meminfo": meminfo, "sys/fs/cgroup/memory.max": "1000000000"})
    found = machine.describe(root)
    assert found.memory_bytes == 8000000 * 1024 and found.memory_available_bytes == 6000000 * 1024
    assert found.memory_limit_bytes == 1000000000
    lay(tmp_path, {"sys/fs/cgroup/memory.max": "9223372036854771712"})
    assert machine.describe(root).memory_limit_bytes is None


def test_a_gpu_without_a_driver_is_seen_on_the_bus(tmp_path):
    bus = "sys/bus/pci/devices"
    lay(tmp_path, {f"{bus}/0000:01:00.0/vendor": "0x10de\n", f"{bus}/0000:01:00.0/class": "0x030200\n"})
    lay(tmp_path, {f"{bus}/0000:01:00.1/vendor": "0x10de\n", f"{bus}/0000:01:00.1/class": "0x040300\n"})  # its sound
    lay(tmp_path, {f"{bus}/0000:02:00.0/vendor": "0x1002\n", f"{bus}/0000:02:00.0/class": "0x030000\n"})
    assert machine.describe(tmp_path).nvidia_boards == 1


def test_no_file_makes_it_raise(tmp_path):
    for name in ("proc/cpuinfo", "proc/meminfo", "proc/loadavg", "proc/self/cgroup", "sys/fs/cgroup/cpu.max"):
        lay(tmp_path, {name: b"\xff\xfe: \x00 :::\n\n: \n1:2"})
    assert machine.describe(tmp_path).usable_cores >= 1


def test_a_removed_working_directory_makes_nothing_raise(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    free = machine.describe(tmp_path).disk_free_bytes
    assert free is None or free >= 0


def test_a_distribution_that_is_not_installed_has_no_version():
    assert machine.installed_version("numpy") == importlib.metadata.version("numpy")
    assert machine.installed_version("not-on-any-index-of-packages") is None

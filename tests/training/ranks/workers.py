"""Processes of one group (gloo, on loopback) that stay, and run what tests give them.

Run as a program, this is one of them: `python workers.py RANK WORLD STORE ADDRESS`.
"""

import os
import subprocess
import sys
import tempfile
import traceback
from datetime import timedelta
from multiprocessing.connection import Client, Listener

import cloudpickle

KEY = b"of the tests"
# Seconds in which a task must end on all ranks; that is far longer than any should take.
LIMIT = 100


class Workers:
    """Some ranks; `run` calls a function on each, and returns what they return or raise."""

    def __init__(self, world):
        self.folder = tempfile.TemporaryDirectory()
        address = os.path.join(self.folder.name, "socket")
        store = os.path.join(self.folder.name, "store")
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with Listener(address, authkey=KEY) as listener:
            command = [sys.executable, __file__]
            self.processes = [
                subprocess.Popen([*command, str(rank), str(world), store, address], env=environment)
                for rank in range(world)
            ]
            by_rank = {}
            for _ in range(world):
                connection = listener.accept()
                by_rank[connection.recv()] = connection
        self.connections = [by_rank[rank] for rank in range(world)]

    def run(self, task, *arguments, limit=LIMIT, **keywords):
        """Call ``task(rank, *arguments, **keywords)`` on each rank."""
        for connection in self.connections:
            connection.send_bytes(cloudpickle.dumps((task, arguments, keywords)))
        return [self._answer(connection, limit) for connection in self.connections]

    @staticmethod
    def _answer(connection, limit):
        if not connection.poll(limit):
            raise TimeoutError(f"A rank did not answer within {limit} seconds.")
        try:
            return cloudpickle.loads(connection.recv_bytes())
        except EOFError as error:
            return error

    def close(self):
        """End the processes, also those that hang."""
        for process in self.processes:
            process.kill()
            process.wait()
        self.folder.cleanup()


def work(rank, world, store, address):
    """Answer tasks until the tests close the connection."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=LIMIT),
    )
    with Client(address, authkey=KEY) as connection:
        connection.send(rank)
        while True:
            try:
                task, arguments, keywords = cloudpickle.loads(connection.recv_bytes())
            except EOFError:
                return
            try:
                answer = task(rank, *arguments, **keywords)
            except BaseException as error:
                traceback.print_exc()
                answer = error
            connection.send_bytes(cloudpickle.dumps(answer))


if __name__ == "__main__":
    work(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])

# CRIU driven by hand over its RPC, as a careful operator's script would: dump with a page server on the other side, copy the
# other images, restore. bench/run calls it in the lab's hosts; it is the yardstick, not part of Phaul.
#   by_hand.py serve DIR (tcp|unix ADDRESS)         on the destination: page server, then receive images and restore
#   by_hand.py move PID DIR (tcp|unix ADDRESS)      on the source; prints one JSON object
import ctypes, json, os, resource, socket, subprocess, sys, tarfile, time
import pycriu

CONTROL_PORT, PAGES_PORT = 5001, 5002


def criu(request, pages=None):
    """One request to a criu of its own, which ends when its socket is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    inherited = [theirs.fileno()] + ([pages.fileno()] if pages else [])
    process = subprocess.Popen(['criu', 'swrk', str(theirs.fileno())], pass_fds=inherited)
    theirs.close()
    ours.send(request.SerializeToString())
    response = pycriu.rpc.criu_resp()
    response.ParseFromString(ours.recv(65536))
    if not response.success:
        sys.exit('criu: %s failed: %s' % (request.type, response.cr_errmsg))
    return response, process


def request(kind, directory, **options):
    r = pycriu.rpc.criu_req(type=kind)
    r.opts.images_dir_fd = os.open(directory, os.O_DIRECTORY)
    r.opts.log_level = 2
    r.opts.log_file = 'log-%s' % kind
    for name, value in options.items():
        setattr(r.opts, name, value)
    return r


def listen(kind, address, port):
    if kind == 'unix':
        path = '%s-%d' % (address, port)
        if os.path.exists(path):
            os.unlink(path)
        s = socket.socket(socket.AF_UNIX)
        s.bind(path)
    else:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((address, port))
    s.listen()
    return s


def connect(kind, address, port):
    s = socket.socket(socket.AF_UNIX if kind == 'unix' else socket.AF_INET)
    s.connect('%s-%d' % (address, port) if kind == 'unix' else (address, port))
    return s


def usage():
    times = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {'cpu': sum(t.ru_utime + t.ru_stime for t in times), 'kib': max(t.ru_maxrss for t in times)}


def serve(directory, kind, address):
    os.makedirs(directory)
    control_listener, pages_listener = (listen(kind, address, port) for port in (CONTROL_PORT, PAGES_PORT))
    print('ready', flush=True)
    control, pages = control_listener.accept()[0], pages_listener.accept()[0]
    r = request(pycriu.rpc.PAGE_SERVER_CHLD, directory)
    r.opts.ps.fd = pages.fileno()
    response, server = criu(r, pages)
    pages.close()
    control.sendall(b'p')
    stream = control.makefile('rb')
    with tarfile.open(fileobj=stream, mode='r|') as archive:
        archive.extractall(directory, filter='data')
    server.wait()
    os.waitpid(response.ps.pid, 0)
    _, restorer = criu(request(pycriu.rpc.RESTORE, directory, rst_sibling=False))
    control.sendall(b'r')
    restorer.wait()
    control.sendall((json.dumps(usage()) + '\n').encode())


def move(pid, directory, kind, address):
    began = time.time()
    os.makedirs(directory)
    control = connect(kind, address, CONTROL_PORT)
    pages = connect(kind, address, PAGES_PORT)
    assert control.recv(1) == b'p'
    r = request(pycriu.rpc.DUMP, directory, pid=pid)
    r.opts.ps.fd = pages.fileno()
    _, dumper = criu(r, pages)
    pages.close()
    dumper.wait()
    with control.makefile('wb') as stream, tarfile.open(fileobj=stream, mode='w|') as archive:
        for name in os.listdir(directory):
            archive.add(os.path.join(directory, name), name)
    control.shutdown(socket.SHUT_WR)
    assert control.recv(1) == b'r'
    total = time.time() - began
    there = json.loads(control.makefile().readline())
    here = usage()
    print(json.dumps({'total_ms': total * 1000, 'cpu_s': here['cpu'] + there['cpu'], 'peak_kib': max(here['kib'], there['kib'])}))


# The page server outlives the criu that made it: as its reaper we can wait for it, and count what it used
ctypes.CDLL(None).prctl(36, 1)
if sys.argv[1] == 'serve':
    serve(*sys.argv[2:5])
else:
    move(int(sys.argv[2]), *sys.argv[3:6])

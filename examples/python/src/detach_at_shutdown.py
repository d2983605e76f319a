import weakref

# A generator lives as long as its loop.
_generators = weakref.WeakKeyDictionary()


def detach_at_shutdown(loop, detach):
    async def until_shutdown(loop):
        try:
            yield
        finally:
            detach(loop())

    generator = until_shutdown(weakref.ref(loop))
    try:
        generator.__anext__().send(None)  # the first step makes the loop know it
    except StopIteration:
        pass
    _generators[loop] = generator

"""The sdist, installed in other environments than the one that runs the tests: the lowest versions that are allowed,
and other Python versions. All are slow. What is tested in one environment alone does not belong here."""

from reid_jax.deviations import deviations


def test_deviations_come_from_docstrings():
    def differs():
        """One line.

        Returns:
            Nothing.
        Deviation: minus sign,
            as the ``plus`` diverges.
        Example: none.
        """

    def agrees():
        """One line.

        Deviation: none.
        """

    def silent():
        pass

    expected = ("differs: minus sign, as the plus diverges.",)
    assert deviations([differs, agrees, silent, differs]) == expected

"""Stage ``check_params``: refuse a bad params.yaml before DVC removes the outs of the stages that would read it."""

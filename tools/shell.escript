%% Run by `rebar3 shell' before its prompt: starts the application and attaches
%% the C-node named esp, so that the first co-op need not wait for it.
main(_) ->
    {ok, _} = application:ensure_all_started(erlangsp),
    case esp_node:await(esp, 10_000) of
        {ok, CNode} -> io:format("C-node ~ts is attached to ~ts~n", [CNode, node()]);
        {error, Reason} -> io:format("no C-node: ~tp~n", [Reason])
    end.

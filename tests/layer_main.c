/* A room is linked whole into this program against only the rooms that it may see. */
int main(void)
{
    return 0;
}
